"""A Wagtail site of the size and shape of its demo: sections, articles, people, a menu, images."""
