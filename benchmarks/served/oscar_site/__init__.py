"""A django-oscar shop as its sandbox is: products in a tree of categories, prices from stock."""
