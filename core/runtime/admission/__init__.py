"""Who may come in: the bounds on what is in the server, and what a newcomer is foreseen to wait."""

from runtime.admission.admission import Admission, AdmissionLimits, Place
from runtime.admission.forecast import Room

__all__ = ["Admission", "AdmissionLimits", "Place", "Room"]
