"""What the runtime costs and how near it comes to what the machine can do."""
