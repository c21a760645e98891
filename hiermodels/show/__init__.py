"""Pictures and reports: they draw and write what the answers computed."""
