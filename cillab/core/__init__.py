"""Floor 0: the nouns of cillab. Nothing here knows a data set, a model, a method, a disk layout or a screen."""
