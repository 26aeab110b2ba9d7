"""HTML pages and figures: map report, contact sheet, retrieval results."""
