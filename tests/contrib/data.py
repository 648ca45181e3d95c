"""The rows of both sites, by SQL."""

from __future__ import annotations

from typing import Final

TOKEN: Final = "00000000-0000-0000-0000-00000000000"

SEED: Final = f"""
CREATE VIEW more_dear AS SELECT id, name FROM shop_product WHERE price > 10;
CREATE TABLE plain_table (id int PRIMARY KEY);
INSERT INTO shop_category (name) VALUES ('red'), ('green');
INSERT INTO shop_product (name, price) VALUES ('one', 0), ('two', 0), ('three', 20);
INSERT INTO shop_product_categories (product_id, category_id) VALUES (1, 1), (2, 2);
INSERT INTO shop_review (product_id, stars) VALUES (1, 1), (1, 2), (2, 5);
INSERT INTO shop_place (name) VALUES ('Roma'), ('Pisa');
INSERT INTO shop_restaurant (place_ptr_id, pizza) VALUES (1, true);
INSERT INTO stock.item DEFAULT VALUES;
INSERT INTO legacy.price_list VALUES ('old');
INSERT INTO "Preis.Liste, größe: INSERT" DEFAULT VALUES;
INSERT INTO shop_order VALUES (1, '2025-02-03'), (2, '2026-02-03');
INSERT INTO shop_line VALUES (1, 1);
INSERT INTO shop_token SELECT ('{TOKEN}' || g)::uuid FROM generate_series(1, 3) g;
"""

CHANGES: Final = [
    ("products", "UPDATE shop_product SET name = name || '!'"),
    ("products 1 to 3", "UPDATE shop_product SET name = name || '!' WHERE id = 2"),
    ("product 1", "UPDATE shop_product SET name = name || '!' WHERE id = 1"),
    ("cheap", "UPDATE shop_product SET name = name || '!' WHERE id = 3"),
    ("count", "UPDATE shop_product SET price = 5 WHERE id = 2"),
    ("named one", "UPDATE shop_product SET name = 'one' WHERE id = 1"),
    ("named one", "UPDATE shop_product SET name = 'another' WHERE id = 1"),
    ("reviews of 1", "INSERT INTO shop_review (product_id, stars) VALUES (1, 4)"),
    ("reviews of 1", "UPDATE shop_review SET product_id = 2 WHERE stars = 2"),
    ("reviews of 2", "UPDATE shop_review SET product_id = 1 WHERE stars = 5"),
    ("reviewed", "UPDATE shop_product SET name = 'eins' WHERE id = 1"),
    (
        "categories of 1",
        "INSERT INTO shop_product_categories (product_id, category_id) VALUES (1, 2)",
    ),
    ("categories of 1", "UPDATE shop_category SET name = name || '!'"),
    ("categories of 1", "DELETE FROM shop_product_categories WHERE product_id = 1"),
    ("restaurants", "UPDATE shop_place SET name = name || '!' WHERE id = 1"),
    ("restaurant 1", "UPDATE shop_place SET name = name || '!' WHERE id = 1"),
    ("restaurant 1", "UPDATE shop_restaurant SET pizza = NOT pizza"),
    ("items", "INSERT INTO stock.item DEFAULT VALUES"),
    ("prices", "INSERT INTO legacy.price_list VALUES ('new')"),
    ("awkward", 'INSERT INTO "Preis.Liste, größe: INSERT" DEFAULT VALUES'),
    ("orders", "INSERT INTO shop_order VALUES (3, '2025-05-05')"),
    ("orders of 2025", "INSERT INTO shop_order VALUES (4, '2025-05-05')"),
    ("orders of 2025", "TRUNCATE shop_order"),
    ("dear", "UPDATE shop_product SET price = price + 20"),
    ("token 1", f"DELETE FROM shop_token WHERE id = '{TOKEN}1'"),
    ("tokens", "DELETE FROM shop_token"),
    ("lines", "UPDATE shop_line SET number = 2"),
    # One transaction, two tables; and the cascade of a constraint.
    (
        "categories",
        "UPDATE shop_product SET name = 'x'; UPDATE shop_category SET name = name || '?'",
    ),
    ("reviewed", "DELETE FROM shop_product_categories; DELETE FROM shop_product WHERE id = 1"),
    ("reviewed", "TRUNCATE shop_product CASCADE"),
]
"""A query, and what changes its rows past Django; in this order."""
