"""What a learner looks at (`gradcam`, `attention`, at places of `layers`), and whether it is the object (`overlap`)."""
