"""What training minimises: one module an objective, found by its name (`run.objective`)."""
