"""The workshop of the bundled model: how it is made from public teachers. The product imports nothing from here."""
