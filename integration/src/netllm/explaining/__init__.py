"""Why an adapted model decided as it did: inputs, attention, sweeps of one field, a rule tree."""
