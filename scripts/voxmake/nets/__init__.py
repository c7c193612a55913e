"""Parts of networks that more than one training uses."""
