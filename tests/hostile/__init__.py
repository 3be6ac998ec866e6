"""What bad and hostile input gets from a running server, one test for each thing it may do."""
