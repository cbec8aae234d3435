"""Complete systems assembled from the layers, and the scripts that train, apply and compare them."""
