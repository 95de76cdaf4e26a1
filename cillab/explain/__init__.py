"""What a learner looks at (`gradcam`, `attention`, `overlap`) and how its features lie in the plane (`projection`).

Nothing is imported here: `projection` needs NumPy alone, the others need torch.
"""
