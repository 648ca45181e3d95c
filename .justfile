# `just` lists what there is; each recipe needs `python -m pip install -e '.[dev]'`.

_default:
    @{{just_executable()}} --justfile {{justfile()}} --list

# Style and layers
lint:
    ruff check .
    ruff format --check .
    lint-imports

# Types of the package, of servers, tests and benchmarks, and of the shop
types:
    mypy
    MYPYPATH=example_project mypy -p servers -p tests -p benchmarks
    MYPYPATH=example_project mypy --config-file example_project/mypy.ini -p shop -p shop_site

# The tests, or those that are named
test *names:
    pytest -n 3 {{names}}

# All tests, the slow ones too
test-all:
    pytest -n 3 -m ''

# The documentation, with warnings as errors
docs:
    sphinx-build -q -W --keep-going -b html docs docs/_build

# One benchmark: `just bench hit --quick`
bench *arguments:
    python -m benchmarks {{arguments}}

# All that a change must pass, from a clean clone on Debian
ci:
    .ci/run
