from tests import shapes as shapes  # the checker that pyproject.toml names must be an attribute here
