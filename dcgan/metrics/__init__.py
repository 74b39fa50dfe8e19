"""Metrics of generated images: each is a class in one of these files and an entry in conf/evaluator/."""
