"""Video files, images and image folders to exact frames."""
