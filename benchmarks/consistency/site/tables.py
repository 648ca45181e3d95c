"""The tables that Django does not make: partitions, a child, and schemas of two tenants."""

from __future__ import annotations

from typing import Final

COLUMNS: Final = "id int PRIMARY KEY, version bigint NOT NULL, note text NOT NULL DEFAULT ''"

MAKE: Final = f"""
CREATE TABLE part (
    id int, version bigint NOT NULL, note text NOT NULL DEFAULT '', zone int NOT NULL DEFAULT 1,
    PRIMARY KEY (id, zone)
) PARTITION BY LIST (zone);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
CREATE TABLE part_3 PARTITION OF part FOR VALUES IN (3);
CREATE TABLE parent ({COLUMNS});
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE SCHEMA acme;
CREATE TABLE acme.item ({COLUMNS});
CREATE SCHEMA umbrella;
CREATE TABLE umbrella.item ({COLUMNS});
"""

SPREAD: Final = """
UPDATE part SET zone = 1 + id % 3;
INSERT INTO child SELECT * FROM ONLY parent WHERE id % 2 = 0;
DELETE FROM ONLY parent WHERE id % 2 = 0;
"""
"""Rows to where they begin, once there are any."""

TENANTS: Final = ("acme", "umbrella")
