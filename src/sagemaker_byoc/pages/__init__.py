"""HTML pages and SVG charts: one file each, without scripts, loading nothing from outside."""
