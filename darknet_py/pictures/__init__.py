"""Images and videos: read, fitted to the network's input, drawn on, written."""
