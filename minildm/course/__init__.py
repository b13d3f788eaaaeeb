"""What the lessons need beside the package: exercises with their checks, and figures."""
