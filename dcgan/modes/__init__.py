"""What `python -m dcgan.sample` can draw: each mode is a class here and a file in conf/mode/."""
