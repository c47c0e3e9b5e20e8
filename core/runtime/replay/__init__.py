"""`runtime replay`: is a reply computed again the reply of its receipt?"""
