"""Images from folders, lists, published layouts, and a renderer."""
