"""What a run leaves to look at: figures and measures of inpainting."""
