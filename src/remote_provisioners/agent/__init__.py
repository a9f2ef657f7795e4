"""The agent: the part of remote-provisioners that runs on a host.

Standard library only, Python 3.8 and later: these modules are shipped to hosts where nothing of
ours is installed. What both sides speak is in :mod:`remote_provisioners.protocol`.
"""
