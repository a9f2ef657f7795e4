"""The files of a host as Jupyter's contents: what JupyterLab shows as a drive."""
