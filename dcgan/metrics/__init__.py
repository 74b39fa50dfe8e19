"""Figures of generated images: each metric is a class in one of these files and an entry in conf/evaluator/."""
