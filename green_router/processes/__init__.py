"""Worker processes: who starts them, who hands them requests, and what runs in them."""
