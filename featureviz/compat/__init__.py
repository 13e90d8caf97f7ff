"""Other tools' spellings over featureviz: Lucid's and Lucent's. docs/from-lucid.md maps every name."""
