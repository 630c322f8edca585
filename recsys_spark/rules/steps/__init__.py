"""Steps that read a rules file, apply it to the tables and publish the audit."""
