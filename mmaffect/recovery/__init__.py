"""What was absent, put back."""

__all__: list[str] = []
