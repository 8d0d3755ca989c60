"""occlp"""
