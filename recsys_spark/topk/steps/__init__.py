"""Steps that plan a join and publish item neighbours."""
