"""World Values Survey wave 7, from its raw csv or from the tables of WorldValuesBench."""
