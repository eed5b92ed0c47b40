"""Networks on one host: the bridge, addresses, published ports, and the files by which programs find names."""
