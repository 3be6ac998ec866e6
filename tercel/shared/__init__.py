"""What both HTTP versions share: messages, streams, buffers, settings, applications."""
