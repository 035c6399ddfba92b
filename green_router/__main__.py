"""``python -m green_router`` is ``green-router``."""

from .commands import main

if __name__ == "__main__":
    main(prog_name="green-router")
