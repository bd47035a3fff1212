"""Files and services that plot losses."""
