-- Run once, when the volume is new. The database keepfit is there already.
CREATE DATABASE jobs OWNER keepfit;
CREATE DATABASE mlflow OWNER keepfit;
