"""What media files are made of: opening them, when their frames are shown, which way up they are."""
