"""Studies: the protocol, the cases and their series, the readers and who reads what when."""
