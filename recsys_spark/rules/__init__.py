"""A rule base: what lists may hold, prefer and place, by conditions on items, users and pairs of them."""
