"""What is done to images before a recipe: commands of `dakit prepare`."""
