"""The learner itself, rebuilt from a checkpoint, for what no recorded array answers. The only room that loads torch."""
