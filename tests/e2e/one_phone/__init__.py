"""Two sessions of one phone that become connected at once, at two workers, through two gateways, beside kills."""
