"""What the app's server adds to Streamlit's own: the document that a browser loads first, and the head start."""
