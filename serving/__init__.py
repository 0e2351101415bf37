"""The API and the page: why was this recommended to me?"""
