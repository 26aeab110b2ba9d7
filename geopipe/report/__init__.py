"""Reports of maps and of chip indexes: pages, contact sheets, figures."""
