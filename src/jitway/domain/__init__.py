"""What a card program is and how it decides: pure, standard library only, no clock, no I/O."""
