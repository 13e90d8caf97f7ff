"""Finds traffic between host and device without a device, under the name that tests know."""

from featureviz.ascent.host_sync import host_traffic

HostTraffic = host_traffic
