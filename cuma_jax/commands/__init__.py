"""What the commands do; the mains at the root of the package only call them."""
