"""What every page stands in: theme, addresses, choice of run, small HTML, lectures. It knows no page and no plot."""
