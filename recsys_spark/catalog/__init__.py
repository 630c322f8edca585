"""SQL that registers the tables of a lake in a catalogue."""
